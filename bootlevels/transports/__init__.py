"""How the boot tool reaches the place where a program runs."""

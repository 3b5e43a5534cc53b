"""Commands for runs that live, or did."""

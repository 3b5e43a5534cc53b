"""What the commands of the boot tool share."""

"""`epu image`: disk images for machines of the cloud qemu, made of Debian packages."""

"""What programs write, read one ionic step at a time; one module a program, all of them found in `registry`."""

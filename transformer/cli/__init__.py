"""The command line, `tgl`: one file a group of commands."""

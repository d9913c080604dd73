"""Small tools of no subject: files, text, statistics, names on the command line."""

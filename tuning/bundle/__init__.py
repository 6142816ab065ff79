"""A study as one file: packed where it was searched, and proven elsewhere by training an arm again."""

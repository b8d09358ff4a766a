"""What changes attention scores by where query and key lie, one a file."""

"""Plain functions over samples: filter, cut, transform. No ray."""

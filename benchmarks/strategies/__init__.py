"""Search strategies judged on tables, thousands of searches at once."""

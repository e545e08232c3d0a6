"""The site as a whole: settings, front page, statistics, the query bar and the demo's data."""

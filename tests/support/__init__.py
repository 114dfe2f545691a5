"""What several test files share: scenes, oracles, comparisons."""

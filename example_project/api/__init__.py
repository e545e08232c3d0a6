"""What the fan club's app asks: JSON, for whoever logged in through OAuth."""

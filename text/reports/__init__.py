"""Pictures of what text models do."""

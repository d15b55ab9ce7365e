"""Tasks about conversations: answering, and answering as people prefer."""

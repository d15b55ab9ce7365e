"""What a model that draws images is trained to do, and how what it draws is judged."""

"""What a build says about itself, and how its concepts agree with official ones."""

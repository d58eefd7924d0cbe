"""Whether weights give away whose records they were trained on, before they leave the machine."""

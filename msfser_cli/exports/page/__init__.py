"""The pages of `msfser report`: templates, style and scripts, and what fills them."""

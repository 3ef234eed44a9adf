"""Tiny vision-language models shipped with the package, and the program that trains them."""

"""Makes conflict datasets: designs, texts and rendered images."""

"""Why a multimodal language model follows the text or the image when the two disagree."""

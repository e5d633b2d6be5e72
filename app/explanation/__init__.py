"""Why a picture gets its label: what the model says where parts of it are hidden. Knows nothing of HTTP."""

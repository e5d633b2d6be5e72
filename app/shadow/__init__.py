"""A second model beside the one that answers, tried on live traffic. Knows nothing of HTTP."""

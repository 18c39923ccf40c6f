"""Small apps that the acceptance tests run: each shows one behaviour and writes down what it really does."""

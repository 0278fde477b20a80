"""The client side: opening an association, requests and responses, associations kept between polls."""

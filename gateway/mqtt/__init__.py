"""MQTT as edge and central use it: the connection and the client below it."""

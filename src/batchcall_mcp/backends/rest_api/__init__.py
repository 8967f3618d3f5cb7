"""The batch-call REST API (`PUT /batch-call/{id}`) as its vendors host it: our dialer, any other server, Zudu."""

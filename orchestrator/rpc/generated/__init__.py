"""Made from orchestrator/rpc/protos/ by `make protos`. Not to be edited."""

"""The example project on MySQL, under the same requests: without replicas, with the naive router, with replicant."""

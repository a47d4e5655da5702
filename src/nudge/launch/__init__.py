"""Job files for training on several processes or machines, for engines that already run jobs. No torch."""

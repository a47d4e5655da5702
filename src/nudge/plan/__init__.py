"""What training costs. Without torch."""

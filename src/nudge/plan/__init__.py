"""What training costs. No torch in here."""

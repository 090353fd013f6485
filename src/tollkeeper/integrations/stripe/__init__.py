"""Stripe, spoken to by its official client. `account.StripeAccount` is the way in; the client is loaded with the first call."""

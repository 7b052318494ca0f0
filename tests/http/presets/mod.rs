//! Presets, each held to what its original documents.

mod adyen;
mod ietf;
mod oasis;
mod paypal;
mod stripe_v1;
mod stripe_v2;

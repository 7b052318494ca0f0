//! What a layer is set to, to be like an API that is known: each file has one, made of
//! the settings that any layer has.

mod adyen;
mod ietf;
mod oasis;
mod paypal;
mod stripe_v1;
mod stripe_v2;

//! What a layer is set to, to be like an API that is known: each file has one, made of
//! the settings that any layer has.

mod ietf;
mod stripe_v1;

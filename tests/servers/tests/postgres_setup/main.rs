//! What a Postgres, its roles or a URL may be like: it works, or it is refused
//! before any handler runs.

mod hosts;
mod quiet;
mod rights;
mod settings;
mod starved;
mod tenant;
mod tls;

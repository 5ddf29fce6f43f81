//! What is said to a model and what comes back, neutral to providers. Pure.

mod request;
mod verify;

#[cfg(feature = "run")]
mod embed;
#[cfg(feature = "run")]
mod neighbour;
#[cfg(feature = "run")]
mod outline;
#[cfg(feature = "run")]
mod reply;
#[cfg(feature = "run")]
mod slots;

/// For how long a provider is to keep the start of a request.
pub use crate::models::Keep;
/// Tokens as the provider counted them.
pub use crate::models::Tokens as Usage;
pub use request::{Ask, Carried, Request, Unkept, any_number_of, context_saved, framed, length, slot, turns, unframed};
pub use verify::{Complaint, Demand, Test, as_said, fits, verify};

#[cfg(feature = "run")]
pub use {
    embed::{EmbedLimits, EmbedRequest, Embedded},
    outline::outline,
    reply::{Answer, Shortfall, Split, Splitting, Stop, single},
};

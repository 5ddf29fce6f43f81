//! What is said to a model and what comes back, neutral to providers. Pure.

mod embed;
mod neighbour;
mod outline;
mod reply;
mod request;
mod slots;
mod verify;

/// For how long a provider is to keep the start of a request.
pub use crate::models::Keep;
/// Tokens as the provider counted them.
pub use crate::models::Tokens as Usage;
pub use embed::{EmbedLimits, EmbedRequest, Embedded};
pub use outline::outline;
pub use reply::{Answer, Shortfall, Split, Splitting, Stop, single};
pub use request::{Ask, Carried, Request, Unkept, any_number_of, context_saved, framed, length, slot, turns, unframed};
pub use verify::{Complaint, Demand, Test, as_said, fits, verify};

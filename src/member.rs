//! The members of a cluster, and their states.

/// The place of a member in its cluster: 0 is the primary, replicas follow in the order they were configured.
pub type Member = u32;

/// The primary's place among the members of its cluster.
pub const PRIMARY: Member = 0;

/// Whether a member may serve reads, and if not, why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It serves.
    #[default]
    Up,
    /// It is further behind than `MAX_LAG`.
    Lagging,
    /// It failed too often.
    Ejected,
    /// It was ejected and is being tried again.
    Probing,
    /// It does not answer.
    Down,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Up, Self::Lagging, Self::Ejected, Self::Probing, Self::Down];

    /// The name that users see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Lagging => "lagging",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
            Self::Down => "down",
        }
    }
}

/// A member's state has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The member.
    pub member: Member,
    /// The state before.
    pub before: State,
    /// The state now.
    pub after: State,
}

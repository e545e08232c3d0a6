//! Why a read goes where it goes, and how it ends.

/// Why a read goes where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The model is in `PRIMARY_ONLY`.
    Exempt,
    /// The innermost scope is `use_primary`.
    UsePrimary,
    /// The primary's connection is in a transaction.
    Transaction,
    /// A statement changed this thread's session with the primary, so that reads have another meaning there.
    SessionState,
    /// The scope requires a position, and no replica is known to have it.
    Pinned,
    /// The innermost scope names a replica.
    UseReplica,
    /// `hints["instance"]` was loaded from there.
    Instance,
    /// The scope already reads from there.
    Sticky,
    /// Chosen by weight.
    Balanced,
    /// Reads do not go to replicas here.
    Default,
    /// No replica may serve.
    Unavailable,
}

impl Reason {
    /// Every reason, in the order of the routing table.
    pub const ALL: [Self; 11] = [
        Self::Exempt,
        Self::UsePrimary,
        Self::Transaction,
        Self::SessionState,
        Self::Pinned,
        Self::UseReplica,
        Self::Instance,
        Self::Sticky,
        Self::Balanced,
        Self::Default,
        Self::Unavailable,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The code that users see.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Exempt => "exempt",
            Self::UsePrimary => "use_primary",
            Self::Transaction => "transaction",
            Self::SessionState => "session_state",
            Self::Pinned => "pinned",
            Self::UseReplica => "use_replica",
            Self::Instance => "instance",
            Self::Sticky => "sticky",
            Self::Balanced => "balanced",
            Self::Default => "default",
            Self::Unavailable => "unavailable",
        }
    }
}

/// How a read or a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// The server answered with an error that counts against it, or the connection ended.
    Failed,
    /// The server refused the connection, or did not answer in time.
    Gone,
}

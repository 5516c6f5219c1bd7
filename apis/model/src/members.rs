//! Who keeps the metadata.

/// One namesrv.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamesrvMember {
    pub id: u64,
    /// Host and port of its registry; empty for one in the same process.
    pub address: String,
}

/// The namesrv of one cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamesrvMembers {
    pub members: Vec<NamesrvMember>,
    /// The one that leads, if whoever was asked knows.
    pub leader: Option<u64>,
}

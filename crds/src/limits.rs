//! Bounds of every string and list in a spec. An API server refuses a CEL rule whose worst-case cost it
//! cannot bound, and the sum of them bounds an object's size in etcd.

/// Longest URL, in characters.
pub const URL: u32 = 2048;
/// Longest regular expression, in characters.
pub const PATTERN: u32 = 512;
/// Most patterns in one list.
pub const PATTERNS: u32 = 128;
/// Longest `host` or `host:port`, in characters.
pub const HOST: u32 = 261;
/// Most hosts in one list.
pub const HOSTS: u32 = 64;
/// Longest repository name, in characters (a DNS label).
pub const NAME: u32 = 63;
/// Longest name of a Secret or ConfigMap, in characters (a DNS subdomain).
pub const OBJECT_NAME: u32 = 253;
/// Most members of a Virtual.
pub const MEMBERS: u32 = 64;
/// Most networks in `egress.allowCIDRs`.
pub const CIDRS: u32 = 64;
/// Longest text of a network (an IPv6 prefix with an embedded IPv4 address), in characters.
pub const CIDR: u32 = 49;
/// Most query parameters that belong to a key.
pub const QUERY_PARAMETERS: u32 = 16;
/// Longest name of a query parameter, in characters.
pub const QUERY_PARAMETER: u32 = 64;
/// Longest duration or quantity, in characters.
pub const SCALAR: u32 = 32;
/// Most grants of a Robot.
pub const GRANTS: u32 = 64;

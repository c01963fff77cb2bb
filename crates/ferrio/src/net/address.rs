//! Where a socket is.

use std::net::{SocketAddrV4, SocketAddrV6};

use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix};

/// The address of one end of a connection.
///
/// The kernel's own form takes 128 bytes whatever the family; ten thousand connections have two of these each.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// An IPv4 address and port.
    V4(SocketAddrV4),
    /// An IPv6 address and port, with flow label and scope.
    V6(Box<SocketAddrV6>),
    /// A path, or a name in the abstract name space, which begins with a zero byte; empty for a socket without a name.
    Unix(Vec<u8>),
    /// Of a family that is not known here.
    Other,
}

impl Address {
    /// What the kernel means by no address at all: the end of a Unix socket that was never bound.
    pub const NAMELESS: Self = Self::Unix(Vec::new());

    pub(super) fn of(address: SocketAddrAny) -> Self {
        match address.address_family() {
            AddressFamily::INET => SocketAddrV4::try_from(address).map_or(Self::Other, Self::V4),
            AddressFamily::INET6 => {
                SocketAddrV6::try_from(address).map_or(Self::Other, |address| Self::V6(Box::new(address)))
            }
            AddressFamily::UNIX => {
                SocketAddrUnix::try_from(address).map_or(Self::Other, |address| Self::unix(&address))
            }
            _ => Self::Other,
        }
    }

    fn unix(address: &SocketAddrUnix) -> Self {
        let name = match (address.path_bytes(), address.abstract_name()) {
            (Some(path), _) => path.to_vec(),
            // A socket without a name shows as an empty one here.
            (None, Some(name)) if !name.is_empty() => [&[0], name].concat(),
            (None, _) => Vec::new(),
        };
        Self::Unix(name)
    }
}

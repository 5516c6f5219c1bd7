//! The cluster token: who knows it may administer the cluster, and belong to it.

use std::fmt;

use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// What [`ClusterToken`] is called on the ports between roles.
pub const CLUSTER_TOKEN: &str = "cluster token";

/// A secret of 256 bits, written as 64 hexadecimal digits. A comparison takes the same time wherever two differ.
#[derive(Clone, Eq)]
pub struct ClusterToken([u8; ClusterToken::BYTES]);

/// The text is not a token. It is not repeated here: it may be most of one.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token is 64 hexadecimal digits")]
pub struct TokenError;

impl ClusterToken {
    pub const BYTES: usize = 32;

    /// The token made of random bytes.
    pub fn new(bytes: [u8; Self::BYTES]) -> ClusterToken {
        ClusterToken(bytes)
    }

    /// Reads 64 hexadecimal digits; blanks around them are skipped, so a line of a file will do.
    ///
    /// # Errors
    /// [`TokenError`] for any other text.
    pub fn parse(text: &str) -> Result<ClusterToken, TokenError> {
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return Err(TokenError);
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(ClusterToken(bytes))
    }

    /// The 64 digits, in lower case: for the file of the token.
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What [`TokenCheck`] wants to see in `authorization`; stays out of logs.
    pub fn header(&self) -> MetadataValue<Ascii> {
        let mut header: MetadataValue<Ascii> =
            format!("Bearer {}", self.reveal()).parse().expect("hexadecimal digits make a header");
        header.set_sensitive(true);
        header
    }
}

impl PartialEq for ClusterToken {
    fn eq(&self, other: &ClusterToken) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for ClusterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

fn nibble(digit: u8) -> Result<u8, TokenError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(TokenError),
    }
}

/// Shows the token with every call, if there is one.
#[derive(Clone, Debug)]
pub struct TokenShown(Option<MetadataValue<Ascii>>);

impl TokenShown {
    pub fn new(token: Option<&ClusterToken>) -> Self {
        Self(token.map(ClusterToken::header))
    }
}

impl Interceptor for TokenShown {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

/// Lets calls pass whose metadata says `authorization: Bearer <token>`; all, if no token is asked for.
#[derive(Clone, Debug)]
pub struct TokenCheck {
    token: Option<ClusterToken>,
    name: &'static str,
}

impl TokenCheck {
    /// `name`: what the token is called where it is asked for, such as "admin token".
    pub fn new(token: Option<ClusterToken>, name: &'static str) -> Self {
        Self { token, name }
    }
}

impl Interceptor for TokenCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let (Some(wanted), name) = (&self.token, self.name) else { return Ok(request) };
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let shown = given.and_then(|value| value.strip_prefix("Bearer ")).and_then(|hex| ClusterToken::parse(hex).ok());
        match shown {
            Some(shown) if shown == *wanted => Ok(request),
            Some(_) => Err(Status::unauthenticated(format!("the {name} is not the one of this cluster"))),
            None => {
                Err(Status::unauthenticated(format!("this call needs the header `authorization: Bearer <{name}>`")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(header: Option<&str>) -> Result<(), String> {
        let mut request = Request::new(());
        if let Some(value) = header {
            request.metadata_mut().insert("authorization", value.parse().expect("the case is ASCII"));
        }
        let mut check = TokenCheck::new(Some(ClusterToken::new([0xab; 32])), "token");
        check.call(request).map(drop).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn only_the_token_passes() {
        let right = "ab".repeat(32);
        assert_eq!(shown(Some(&format!("Bearer {right}"))), Ok(()));
        assert_eq!(shown(Some(&format!("Bearer {}", right.to_uppercase()))), Ok(()));
        let wrong = shown(Some(&format!("Bearer {}", "ac".repeat(32))));
        assert!(wrong.is_err_and(|text| text.contains("not the one of this cluster")));
        for rubbish in [None, Some(""), Some("Bearer "), Some("Bearer abc"), Some(right.as_str()), Some("Basic x")] {
            assert!(shown(rubbish).is_err_and(|text| text.contains("needs the header")), "{rubbish:?}");
        }
    }

    #[test]
    fn whoever_shows_the_token_passes() {
        let token = ClusterToken::parse(&format!("{}\n", "AB".repeat(32))).unwrap();
        assert_eq!(format!("{token:?}"), "***");
        let mut check = TokenCheck::new(Some(token.clone()), "cluster token");
        let mut ask = |shown: Option<&ClusterToken>| {
            let shown = TokenShown::new(shown).call(Request::new(())).unwrap();
            check.call(shown).map(drop).map_err(|status| status.message().to_owned())
        };
        assert_eq!(ask(Some(&token)), Ok(()));
        let wrong = ClusterToken::parse(&"ac".repeat(32)).unwrap();
        assert!(ask(Some(&wrong)).is_err_and(|why| why.contains("the cluster token is not the one of this cluster")));
        assert!(ask(None).is_err_and(|why| why.contains("needs the header")));
        assert!(TokenCheck::new(None, "cluster token").call(Request::new(())).is_ok());
        for rubbish in ["", "abc", &"x".repeat(64), &"é".repeat(32)] {
            assert_eq!(ClusterToken::parse(rubbish), Err(TokenError));
        }
    }

    #[test]
    fn a_token_is_read_as_it_is_written_and_never_shown_by_accident() {
        let token = ClusterToken::new(std::array::from_fn(|at| u8::try_from(at * 7).expect("32 * 7 < 256")));
        let again = ClusterToken::parse(&format!("{}\n", token.reveal())).expect("a token reads what it writes");
        assert_eq!(again, token);
        assert_eq!(format!("{token:?} {:?}", TokenShown::new(Some(&token))), "*** TokenShown(Some(Sensitive))");
    }
}

//! The cluster token: who knows it may speak to namesrv.

use std::fmt;

use subtle::ConstantTimeEq;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// A secret of 256 bits, written as 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterToken(String);

/// The text is not a token. It is not repeated here: it may be most of one.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a cluster token is 64 hexadecimal digits")]
pub struct TokenError;

impl ClusterToken {
    const DIGITS: usize = 64;

    /// Reads 64 hexadecimal digits; blanks around them are skipped, so a line of a file will do.
    ///
    /// # Errors
    /// [`TokenError`] for any other text.
    pub fn parse(text: &str) -> Result<ClusterToken, TokenError> {
        let digits = text.trim();
        if digits.len() != Self::DIGITS || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(TokenError);
        }
        Ok(ClusterToken(digits.to_ascii_lowercase()))
    }

    fn header(&self) -> MetadataValue<Ascii> {
        let mut header: MetadataValue<Ascii> =
            format!("Bearer {}", self.0).parse().expect("hexadecimal digits make a header");
        header.set_sensitive(true);
        header
    }

    /// Takes the same time wherever the two differ.
    fn is(&self, other: &ClusterToken) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl fmt::Debug for ClusterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Shows the token with every call, if there is one.
#[derive(Clone)]
pub(crate) struct TokenShown(Option<MetadataValue<Ascii>>);

impl TokenShown {
    pub(crate) fn new(token: Option<&ClusterToken>) -> Self {
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
#[derive(Clone)]
pub(crate) struct TokenCheck(Option<ClusterToken>);

impl TokenCheck {
    pub(crate) fn new(token: Option<ClusterToken>) -> Self {
        Self(token)
    }
}

impl Interceptor for TokenCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(wanted) = &self.0 else { return Ok(request) };
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let shown = given.and_then(|value| value.strip_prefix("Bearer ")).and_then(|hex| ClusterToken::parse(hex).ok());
        match shown {
            Some(shown) if shown.is(wanted) => Ok(request),
            Some(_) => Err(Status::unauthenticated("the cluster token is not the one of this cluster")),
            None => Err(Status::unauthenticated("this call needs the header `authorization: Bearer <cluster token>`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_passes() {
        let token = ClusterToken::parse(&format!("{}\n", "AB".repeat(32))).unwrap();
        assert_eq!(format!("{token:?}"), "***");
        let mut check = TokenCheck::new(Some(token.clone()));
        let mut ask = |shown: Option<&ClusterToken>| {
            let shown = TokenShown::new(shown).call(Request::new(())).unwrap();
            check.call(shown).map(drop).map_err(|status| status.message().to_owned())
        };
        assert_eq!(ask(Some(&token)), Ok(()));
        let wrong = ClusterToken::parse(&"ac".repeat(32)).unwrap();
        assert!(ask(Some(&wrong)).is_err_and(|why| why.contains("is not the one of this cluster")));
        assert!(ask(None).is_err_and(|why| why.contains("needs the header")));
        assert!(TokenCheck::new(None).call(Request::new(())).is_ok());
        for rubbish in ["", "abc", &"x".repeat(64), &"é".repeat(32)] {
            assert_eq!(ClusterToken::parse(rubbish), Err(TokenError));
        }
    }
}

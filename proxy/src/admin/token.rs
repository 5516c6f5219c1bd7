//! The cluster token: who knows it may administer.

use std::fmt;

use subtle::ConstantTimeEq;
use tonic::service::Interceptor;
use tonic::{Request, Status};

/// A secret of 256 bits, written as 64 hexadecimal digits.
#[derive(Clone)]
pub struct AdminToken([u8; AdminToken::BYTES]);

/// The text is not a token. It is not repeated here: it may be most of one.
#[derive(Debug, Copy, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token is 64 hexadecimal digits")]
pub struct TokenError;

impl AdminToken {
    pub const BYTES: usize = 32;

    /// The token made of random bytes.
    pub fn new(bytes: [u8; Self::BYTES]) -> AdminToken {
        AdminToken(bytes)
    }

    /// Reads 64 hexadecimal digits; blanks around them are skipped, so a line of a file will do.
    ///
    /// # Errors
    /// [`TokenError`] for any other text.
    pub fn parse(text: &str) -> Result<AdminToken, TokenError> {
        let digits = text.trim().as_bytes();
        if digits.len() != 2 * Self::BYTES {
            return Err(TokenError);
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(AdminToken(bytes))
    }

    /// The 64 digits, in lower case: for the file of the token and the header of a client.
    pub fn reveal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Takes the same time wherever the two differ.
    fn is(&self, other: &AdminToken) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for AdminToken {
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

/// Lets calls pass whose metadata says `authorization: Bearer <token>`.
#[derive(Clone, Debug)]
pub struct TokenCheck {
    token: AdminToken,
}

impl TokenCheck {
    pub(super) fn new(token: AdminToken) -> TokenCheck {
        TokenCheck { token }
    }
}

impl Interceptor for TokenCheck {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let given = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let shown = given.and_then(|value| value.strip_prefix("Bearer ")).and_then(|hex| AdminToken::parse(hex).ok());
        match shown {
            Some(shown) if shown.is(&self.token) => Ok(request),
            Some(_) => Err(Status::unauthenticated("the admin token is not the one of this cluster")),
            None => Err(Status::unauthenticated("this call needs the header `authorization: Bearer <admin token>`")),
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
        let mut check = TokenCheck::new(AdminToken::new([0xab; 32]));
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
    fn a_token_is_read_as_it_is_written_and_never_shown_by_accident() {
        let token = AdminToken::new(std::array::from_fn(|at| u8::try_from(at * 7).expect("32 * 7 < 256")));
        let again = AdminToken::parse(&format!("{}\n", token.reveal())).expect("a token reads what it writes");
        assert!(again.is(&token));
        assert_eq!(format!("{token:?}"), "***");
        assert!(matches!(AdminToken::parse(&"é".repeat(32)), Err(TokenError)));
    }
}

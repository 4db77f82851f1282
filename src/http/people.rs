//! People by their e-mail address.

use super::AppState;
use super::auth::AccountCaller;
use super::error::ApiError;
use super::remembered::Remembered;
use crate::domain::{AccountId, SpaceId};
use crate::upstream::RestError;

/// Longest e-mail address (RFC 5321, 4.5.3.1.3).
const MAX_EMAIL: usize = 254;

/// The user ids of addresses asked for lately. Who sees whom depends on the account.
pub(super) type UsersByEmail = Remembered<(AccountId, String), String>;

/// Whether `text` looks like an e-mail address. Only Spaces knows whether it is one.
pub(super) fn is_email(text: &str) -> bool {
    let has_two_parts = text.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    let is_plain = |character: char| !character.is_whitespace() && !character.is_control() && character != '/';
    text.len() <= MAX_EMAIL && has_two_parts && text.matches('@').count() == 1 && text.chars().all(is_plain)
}

/// The id of the user whom Spaces knows by `email`, as the caller's account may find it.
pub(super) async fn user_of_email(app: &AppState, caller: &AccountCaller, email: &str) -> Result<String, ApiError> {
    if !is_email(email) {
        return Err(ApiError::PersonNotFound);
    }
    let (session, identity) = caller.identity(app).await?;
    let key = (identity.account, email.to_lowercase());
    if let Some(user) = app.internals().users_by_email.get(&key) {
        return Ok(user);
    }
    let found = app.rest.user_by_email(session.credential(), &key.1).await.map_err(|error| caller.told(error))?;
    let user = found.ok_or(ApiError::PersonNotFound)?;
    if user.parse::<SpaceId>().is_err() {
        return Err(RestError::Unreadable { detail: "an odd user id" }.into());
    }
    app.internals().users_by_email.insert(key, user.clone());
    Ok(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_other_texts() {
        for (text, expected) in [
            ("bo@corp.example", true),
            ("bo+x%y@corp", true),
            ("bö@corp.example", true),
            ("bo", false),
            ("@corp", false),
            ("bo@", false),
            ("bo@corp@example", false),
            ("b o@corp", false),
            ("bo@corp\u{0}", false),
            ("../bo@corp", false),
            ("", false),
        ] {
            assert_eq!(is_email(text), expected, "{text}");
        }
        assert!(!is_email(&format!("{}@b", "a".repeat(MAX_EMAIL))));
    }
}

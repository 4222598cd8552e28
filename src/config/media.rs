//! The section `[media]`: how large files may be, and where they are.
//!
//! May import: serde.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::Problem;

/// Files that people upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// Bytes of one uploaded file. Default: 52428800.
    pub upload_bytes_max: u64,
    /// Bytes of one file of another server that is fetched for somebody. Default: 104857600.
    pub remote_bytes_max: u64,
    /// Bytes of files of other servers that each tenant keeps; those that were read least recently go first. Default: 1073741824.
    pub cache_bytes_max: u64,
    /// A bucket of S3 that holds the files, each tenant's in a folder of its name. Default: none, they are in the data folder.
    pub s3_bucket: String,
    /// The address of the service; plain HTTP only on this machine. Default: that of Amazon for the region.
    pub s3_endpoint: String,
    /// The region of the bucket. Default: us-east-1.
    pub s3_region: String,
    /// The id of the key that may read and write the bucket. Default: none, the machine has a role that gives it one.
    pub s3_access_key_id: String,
    /// The secret of that key. Default: none.
    pub s3_secret_access_key: Secret,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            upload_bytes_max: 50 * 1024 * 1024,
            remote_bytes_max: 100 * 1024 * 1024,
            cache_bytes_max: 1024 * 1024 * 1024,
            s3_bucket: String::new(),
            s3_endpoint: String::new(),
            s3_region: "us-east-1".to_owned(),
            s3_access_key_id: String::new(),
            s3_secret_access_key: Secret::default(),
        }
    }
}

/// A text that no log shows.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(secret)")
    }
}

impl Media {
    pub(super) fn check(&self) -> Result<(), Problem> {
        if self.upload_bytes_max == 0 {
            return Err(Problem::new("media.upload_bytes_max", "must be at least 1"));
        }
        if self.cache_bytes_max < self.remote_bytes_max {
            return Err(Problem::new("media.cache_bytes_max", "must be at least `media.remote_bytes_max`"));
        }
        if self.s3_bucket.is_empty() {
            return Ok(());
        }
        if self.s3_region.is_empty() {
            return Err(Problem::new(
                "media.s3_region",
                "must not be empty; write `us-east-1` where regions do not count",
            ));
        }
        if self.s3_access_key_id.is_empty() != self.s3_secret_access_key.0.is_empty() {
            return Err(Problem::new(
                "media.s3_secret_access_key",
                "a key has an id and a secret; set both, or neither",
            ));
        }
        let is_right = self.s3_endpoint.is_empty()
            || self.s3_endpoint.starts_with("https://")
            || self.s3_endpoint.strip_prefix("http://").is_some_and(is_loopback);
        if is_right {
            return Ok(());
        }
        let message =
            "must begin with `https://`; plain `http://` is for this machine only, such as http://127.0.0.1:9000";
        Err(Problem::new("media.s3_endpoint", message))
    }
}

/// Host and port of an address are on this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split('/').next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(endpoint: &str, id: &str, secret: &str) -> Media {
        Media {
            s3_bucket: "media".to_owned(),
            s3_endpoint: endpoint.to_owned(),
            s3_access_key_id: id.to_owned(),
            s3_secret_access_key: Secret(secret.to_owned()),
            ..Media::default()
        }
    }

    #[test]
    fn a_bucket_is_reached_in_secret_or_on_this_machine() {
        for right in ["", "https://s3.example.org", "http://127.0.0.1:9000", "http://localhost:9000/", "http://[::1]:9"]
        {
            assert_eq!(media(right, "id", "secret").check(), Ok(()), "{right}");
        }
        for wrong in ["s3.example.org", "http://s3.example.org", "http://127.0.0.1.example.org:80", "ftp://localhost"] {
            assert!(media(wrong, "id", "secret").check().is_err(), "{wrong}");
        }
        assert!(media("", "id", "").check().is_err());
        assert_eq!(media("", "", "").check(), Ok(()));
        assert!(!format!("{:?}", media("", "id", "hush")).contains("hush"));
    }
}

//! Files and variables that hold secrets by what they are called.

use std::sync::LazyLock;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Files that hold secrets by what they are called, wherever they lie and in whatever case. One that begins with `!` takes back.
const DENIED: &[&str] = &[
    ".env",
    ".env.*",
    "*.env",
    "!*.env.{example,sample,template,dist,defaults,schema}",
    "!.env.{example,sample,template,dist,defaults,schema}",
    "!.env.*.{example,sample,template,dist,defaults,schema}",
    "!{example,sample,template}.env",
    ".envrc",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.ppk",
    "*.jks",
    "*.keystore",
    "*.kdbx",
    "id_{rsa,dsa,ecdsa,ed25519,ecdsa_sk,ed25519_sk}",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".htpasswd",
    ".git-credentials",
    ".dockercfg",
    ".docker/config.json",
    ".vault-token",
    "credentials",
    ".aws/config",
    ".cargo/credentials.toml",
    ".gem/credentials",
    "kubeconfig",
    "*.kubeconfig",
    ".kube/config",
    "*service-account*.json",
    "*service_account*.json",
    "client_secret*.json",
    "application_default_credentials.json",
    "*.tfstate",
];

/// The pattern of [`DENIED`] that the name of a file matches.
pub fn denied(path: &str) -> Option<&'static str> {
    static SET: LazyLock<Option<GlobSet>> = LazyLock::new(|| {
        let mut set = GlobSetBuilder::new();
        for pattern in DENIED {
            let pattern = format!("**/{}", pattern.trim_start_matches('!'));
            set.add(GlobBuilder::new(&pattern).case_insensitive(true).literal_separator(true).build().ok()?);
        }
        set.build().ok()
    });
    // Without the list nothing is known to be harmless; a test holds it together.
    let Some(set) = SET.as_ref() else { return DENIED.first().copied() };
    let matched = set.matches(path);
    let takes_back = matched.iter().any(|at| DENIED[*at].starts_with('!'));
    matched.first().map(|at| DENIED[*at]).filter(|_| !takes_back)
}

/// Whether a variable of the environment holds a secret, by its name: `SHOP_API_KEY`, `DB_PASSWORD`.
pub fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 12] = [
        "KEY",
        "APIKEY",
        "TOKEN",
        "SECRET",
        "SECRETS",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "PWD",
        "CREDENTIAL",
        "CREDENTIALS",
        "PAT",
    ];
    // The shell's own folder is no password.
    name != "PWD" && name != "OLDPWD" && name.split('_').any(|word| WORDS.contains(&word.to_ascii_uppercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn files_that_hold_secrets_go_by_their_names() {
        for path in [
            ".env",
            "app/.env",
            ".ENV",
            ".env.production",
            "prod.env",
            "a/b/server.pem",
            "TLS.KEY",
            "x/id_rsa",
            "id_ed25519",
            ".netrc",
            "web/.npmrc",
            ".pypirc",
            "credentials",
            ".aws/credentials",
            "x/.aws/config",
            "store.p12",
            "a.pfx",
            "all.kdbx",
            ".htpasswd",
            "kubeconfig",
            "dev.kubeconfig",
            ".kube/config",
            "acme-service-account.json",
            "service_account_key.json",
            ".docker/config.json",
            "terraform.tfstate",
            ".cargo/credentials.toml",
        ] {
            assert!(denied(path).is_some(), "{path}");
        }
        for path in [
            ".env.example",
            "app/.env.sample",
            ".env.template",
            "prod.env.example",
            "example.env",
            ".env.local.example",
            "env",
            "environment.md",
            "id_rsa.pub",
            "config.json",
            "src/credentials.rs",
            "credentials.md",
            "keys.md",
            "key",
            "public.key.md",
            "service.json",
            "account.json",
            ".github/config",
            "npmrc.md",
            "package.json",
            "docs/.env/readme.md",
        ] {
            assert_eq!(denied(path), None, "{path}");
        }
        assert_eq!(denied("app/.env"), Some(".env"));
    }

    #[test]
    fn variables_that_hold_secrets_go_by_their_names() {
        for name in ["API_KEY", "token", "DB_PASSWORD", "ACME_SECRETS", "AWS_SECRET_ACCESS_KEY"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PWD", "HOME", "MONKEY", "TOKENS_PER_MINUTE", "KEYBOARD"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn the_list_of_names_is_in_the_reference() {
        let (_, section) = include_str!("../../docs/genfile.md").split_once("## Secrets").expect("the section");
        let (section, _) = section.split_once("\n## ").expect("another section after it");
        let table: String = section.lines().filter(|line| line.starts_with("| ")).collect();
        let listed: BTreeSet<&str> = table.split('`').skip(1).step_by(2).collect();
        assert_eq!(listed, DENIED.iter().map(|name| name.trim_start_matches('!')).collect());
    }
}

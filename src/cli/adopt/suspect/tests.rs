use super::*;

fn told(text: &str) -> Vec<usize> {
    suspicions("/etc/app.conf", 0o644, text.as_bytes()).into_iter().filter_map(|found| found.line).collect()
}

#[test]
fn what_is_a_secret_by_its_form_is_told_by_its_line() {
    for secret in [
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "-----BEGIN RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        "-----BEGIN OpenVPN Static key V1-----",
        "-----begin private key-----",
        "-----BEGIN PGP PRIVATE KEY BLOCK-----",
        "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----",
        "Key: (private-key (ecc (curve Ed25519)",
        "(21:protected-private-key(3:rsa",
        "url https://ana:$ecret!@git.example.org/x",
        "AGE-SECRET-KEY-1QQQQ",
        "PuTTY-User-Key-File-3: ssh-ed25519",
        "ana:$6$saltsalt$kjhKJHkjhKJHkjhkjhKJH:19000:0:99999:7:::",
        "ana:$y$j9T$abcdefgh$ABCDEFGHIJ",
        "x:$2y$10$abcdefghijklmnopqrstuv",
        "userPassword:: {SSHA}abcdefghijklmnop==",
        "id AKIAIOSFODNN7EXAMPLE",
        "url https://ana:hunter2@git.example.org/x",
        "mysql://app:hunter2@db/app",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "sk-ant-api03-abcdefghijklmnopqrst",
        "key: sk-proj-abcdefghijklmnopqrst",
        "xapp-1-A0123456789-abcdefgh",
        "url: https://hooks.slack.com/services/T00000000/B00000000/abcdefghijklmnopqrstuvwx",
        "https://discord.com/api/webhooks/123456789012345678/abcdefghijkl",
        "https://api.telegram.org/bot1234567890:abcdefghijklmnop/sendMessage",
        "x eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
    ] {
        assert_eq!(told(&format!("a\n{secret}\nb\n")), [2], "{secret}");
    }
}

#[test]
fn what_is_assigned_to_a_key_of_a_secret_is_told() {
    for secret in [
        "password = hunter2",
        "password=hunter2",
        "password: hunter2",
        "password hunter2",
        "  \"password\": \"hunter2\",",
        "{\"user\": \"x\", \"dbPassword\": \"y2\"}",
        "define('DB_PASSWORD', 'hunter2');",
        "Environment=DB_PASSWORD=hunter2",
        "Environment=\"API_TOKEN=abc123\"",
        "export AWS_SECRET_ACCESS_KEY=abc/def",
        "api_key = \"0123\"",
        "apiKey: 0123",
        "PrivateKey = YJkZr0v=",
        "PresharedKey = YJkZr0v=",
        "psk=\"a long one\"",
        "bindpw abc",
        "olcRootPW: abc",
        "smtp_pass = abc",
        "client_secret=abc",
        "secret_key_base: abc",
        "rocommunity = abc",
        "#password=hunter2",
        "# client_secret = abc",
        "machine h login ana password hunter2",
        "set my_password 'hunter2'",
        "requirepass = hunter2",
        "auth_token => 'abc'",
        "PASSWORD='two words'",
        "pin: 1234",
        "    client-key-data: LS0tLS1CRUdJTg==",
        "client-key: abc",
        "  \"auth\": \"YW5hOmh1bnRlcjI=\"",
        "//registry.npmjs.org/:_auth=YW5hOmh1bnRlcjI=",
        "wep_key0=abcde",
        "wep-key3=abcde",
        "ExecStart=/usr/bin/app --password hunter2",
        "ExecStart=/usr/bin/app --password=hunter2 --all",
        "ExecStart=/usr/bin/app --verbose --token abc",
        "app --secret 'a b' x",
        "app --api-key abc",
        "command: [\"app\", \"--password\", \"hunter2\"]",
        "command: [\"app\",\"--password\",\"hunter2\"]",
        "keytool -storepass hunter2",
        "ExecStart=/usr/bin/curl -u ana:hunter2 https://example.org",
        "curl -sS --user 'ana:hunter2' https://example.org",
        "curl -uana:hunter2 https://example.org",
        "curl -ulou:hunter2 https://example.org",
        "mysql -u root -phunter2 app",
        "ExecStart=/usr/bin/mysqldump -p'hunter2' app",
        "password = $ecret!",
        "password = $3cret",
        "password = @home",
        "password = <3cats",
        "password = %(x",
        "password = ${A}hunter2",
        "password \"$ecret!\"",
        "key \"k\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; };",
        "key k { algorithm hmac-sha256; secret c2VjcmV0; };",
        "CREATE USER 'app'@'%' IDENTIFIED BY 'hunter2';",
        "  identified by \"hunter2\"",
        "ALTER USER app IDENTIFIED WITH mysql_native_password BY 'hunter2';",
        "ALTER ROLE app WITH LOGIN PASSWORD 'hunter2';",
        "stats auth admin:hunter2",
        "    stats auth admin:hunter2",
        "user ana insecure-password hunter2",
        "<password>hunter2</password>",
        "<db><user>x</user><dbPassword type=\"a\">hunter2</dbPassword></db>",
        "<secret><![CDATA[hunter2]]></secret>",
    ] {
        assert_eq!(told(secret), [1], "{secret}");
    }
}

#[test]
fn settings_about_secrets_are_none() {
    let text = "PasswordAuthentication no\n#PermitEmptyPasswords no\nPermitRootLogin prohibit-password\n\
                AuthenticationMethods publickey,password\nAuthorizedKeysFile .ssh/authorized_keys\n\
                password requisite pam_pwquality.so retry=3\npassword [success=1 default=ignore] pam_unix.so\n\
                passwd: files systemd\nPASS_MAX_DAYS 99999\nPASS_MIN_LEN 5\nDefaults passwd_timeout=1\n\
                ana ALL=(ALL) NOPASSWD: ALL\nproxy_pass http://127.0.0.1:8080;\nfastcgi_pass unix:/run/php.sock;\n\
                ssl_password_file /etc/keys/pass;\nssl_certificate_key /etc/ssl/private/x.key;\n\
                password_file = /etc/app/password\npassword = ${PASSWORD}\npassword = {{ vars.password }}\n\
                password=\ntoken = <your token>\nuser = ana\n# The password is kept elsewhere.\n\
                # Note on token: see the manual\nkey = value\nssh-ed25519 AAAAC3NzaC1lZDI1 ana@example.org\n\
                -----BEGIN CERTIFICATE-----\nhttp://example.org:8080/@x\nEnvironmentFile=/etc/app/secret\n\
                session_token_ttl = 30\nThis host has no secret.\nWelcome, this is a motd: no password needed.\n";
    let lines: Vec<&str> = text.lines().collect();
    let told: Vec<&str> = told(text).into_iter().map(|line| lines[line - 1]).collect();
    assert_eq!(told, Vec::<&str>::new());
}

#[test]
fn what_only_stands_for_a_secret_is_none() {
    for innocent in [
        "password = $PASSWORD",
        "password=$1",
        "password=\"$(cat \"/x/y z\")\"",
        "password=$(pass show x)",
        "password = ${A:-}",
        "password = @PASSWORD@",
        "password = %(db_password)s",
        "password \"{{ vars.password }}\"",
        "machine h login ana password {{ vars.password }}",
        "https://ana:$PASSWORD@git.example.org/x",
        "https://ana:${PASSWORD}@git.example.org/x",
        "ExecStart=/usr/bin/app --password ${PASSWORD} --token \"$TOKEN\"",
        "ExecStart=/usr/bin/app --password-file /etc/app/x --token-ttl 30",
        "ExecStart=/usr/bin/app --ask-password --verbose",
        "app --password \\",
        "--password) shift ;;",
        "# app --password X",
        "curl -u \"$A:$B\" https://example.org",
        "curl -u ana https://example.org",
        "systemctl --user start a:b",
        "sudo -u ana:b x",
        "mysql -u root -p app",
        "mysql -p\"$PASSWORD\" app",
        "mkdir -pv /x",
        "if x { return token; }",
        "Tell nobody; password needed.",
        "key \"k\" { algorithm hmac-sha256; secret \"${SECRET}\"; };",
        "ALTER ROLE app PASSWORD NULL;",
        "CREATE USER app IDENTIFIED BY '${PASSWORD}';",
        "GRANT ALL ON app.* TO 'app';",
        "stats auth \"$ADMIN\"",
        "stats auth admin:${PASSWORD}",
        "auth basic:x",
        "https://hooks.slack.com/services/<your path here>",
        "https://api.telegram.org/bot${TOKEN}/sendMessage",
        "task-proj-abcdefghijklmnopqrst",
        "<password></password>",
        "<password>${PASSWORD}</password>",
        "<password-file>x</password-file>",
        "<user>ana</user>",
        "auth_basic \"closed\";",
        "auth: none",
        "  \"auth\": \"oauth\"",
        "client-key: client.key",
        "wep_tx_keyidx=0",
        "auth required pam_unix.so",
        "password optional pam_gnome_keyring.so",
        "-----BEGIN PUBLIC KEY-----",
        "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        "-----BEGIN CERTIFICATE-----",
        "(public-key (ecc",
        "PasswordAuthentication yes",
        "ENCRYPT_METHOD YESCRYPT",
        "account [success=1 new_authtok_reqd=done default=ignore] pam_unix.so",
        "Pin: origin deb.example.org",
        "kpasswd 464/tcp",
        "LoadCredential=x",
        "ImportCredential=passwd.*",
        "Description=Authorization Manager",
        "[credential \"https://example.org\"]",
        "private_key = $dir/private/cakey.pem# The private key",
        "application/vnd.x.token tst",
    ] {
        assert_eq!(told(innocent), Vec::<usize>::new(), "{innocent}");
    }
}

#[test]
fn a_word_is_enough_in_a_file_that_not_everybody_may_read() {
    let text = "# the password\nthe secret of the house\n";
    assert_eq!(told(text), Vec::<usize>::new());
    let closed = suspicions("/etc/x", 0o640, text.as_bytes());
    assert_eq!(closed, [Suspicion { line: Some(2), what: CLOSED }]);
    assert_eq!(suspicions("/etc/x", 0o600, b"nothing of the kind\n"), []);
}

#[test]
fn files_that_are_credentials_by_name_are_told_whole() {
    for path in ["/root/.netrc", "/etc/ssh/ssh_host_ed25519_key", "/root/.ssh/id_rsa", "/etc/krb5.keytab", "/srv/x.p12"]
    {
        let found = suspicions(path, 0o644, b"\0\xff binary");
        assert_eq!(found.len(), 1, "{path}");
        assert_eq!(found[0].line, None);
    }
    assert_eq!(suspicions("/etc/ssh/ssh_host_ed25519_key.pub", 0o644, b"ssh-ed25519 AAAA x\n"), []);
}

#[test]
fn names_and_places_count_whatever_is_put_behind_them() {
    let is = |path: &str, mode: u32| suspicions(path, mode, b"x\n").len();
    for path in [
        "/etc/postfix/sasl_passwd.db",
        "/etc/postfix/sasl_passwd.lmdb",
        "/root/.netrc.bak",
        "/root/.pgpass.dpkg-old",
        "/etc/ipsec.secrets.rpmsave",
        "/root/.my.cnf~",
        "/etc/ssl/server.key",
        "/etc/ssl/server.key.old.orig",
        "/etc/dropbear/dropbear_rsa_host_key",
        "/etc/wireguard/privatekey",
        "/etc/ceph/ceph.client.admin.keyring",
        "/var/lib/samba/private/secrets.tdb",
        "/etc/x.p8",
        "/etc/x.pkcs12",
        "/etc/x.jks",
    ] {
        assert_eq!(is(path, 0o644), 1, "{path}");
    }
    for path in [
        "/etc/pam.d/chpasswd",
        "/etc/pgpass.conf",
        "/etc/app/secret",
        "/etc/app/credentials",
        "/etc/app/cookie",
        "/etc/ssl/private/x",
        "/etc/credstore/x",
        "/etc/cryptsetup-keys.d/x",
        "/root/.gnupg/private-keys-v1.d/x",
        "/root/.docker/config.json",
    ] {
        assert_eq!((is(path, 0o644), is(path, 0o640)), (0, 1), "{path}");
    }
    for path in [
        "/etc/dropbear/dropbear_rsa_host_key.pub",
        "/usr/share/keyrings/x.keyring",
        "/etc/apt/keyrings/x.key",
        "/etc/apt/trusted.gpg.d/x.keyring",
        "/etc/keyboard",
        "/etc/hosts.bak",
    ] {
        assert_eq!((is(path, 0o644), is(path, 0o600)), (0, 0), "{path}");
    }
    let public = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n";
    assert_eq!(suspicions("/etc/x.key", 0o644, public), []);
    assert_eq!(suspicions("/etc/security/opasswd", 0o600, b""), []);
}

#[test]
fn bytes_and_long_words_count_in_a_file_that_not_everybody_may_read() {
    let bytes = b"\xff\0\x01";
    assert_eq!(suspicions("/etc/munge/x", 0o600, bytes), [Suspicion { line: None, what: NO_TEXT }]);
    assert_eq!(suspicions("/etc/munge/x", 0o644, bytes), []);
    for word in [
        "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=",
        "ABCDEFGHIJKLMNOPQRST",
        "correct-horse-battery-staple",
        "0123456789abcdef",
        "[\"HvY8ubRZMgafUOWvrOadwOckVa1wN3QWAo46FVKbVN8=\"]",
    ] {
        let text = format!("# a\n{word}\n");
        let found = suspicions("/etc/x", 0o640, text.as_bytes());
        assert_eq!(found, [Suspicion { line: Some(2), what: ALONE }], "{word}");
        assert_eq!(suspicions("/etc/x", 0o644, text.as_bytes()), [], "{word}");
    }
    let innocent = "short\n#0123456789abcdef0123\n################\n================\n[a-section-of-settings]\n\
                    /etc/app/a/long/path\nworker_processes=4096\na_label_of_yaml_here:\n<an-element-of-it/>\n\
                    a_function_of_it()\nhttps://example.org/x\n${A_VARIABLE_OF_IT}\nDefaults env_reset_something\n\
                    -----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUabc\n-----END CERTIFICATE-----\n";
    assert_eq!(suspicions("/etc/x", 0o640, innocent.as_bytes()), []);
    let key = b"-----BEGIN PRIVATE KEY-----\nMIIBszCCAVmgAwIBAgIUabc\n-----END PRIVATE KEY-----\n";
    assert_eq!(suspicions("/etc/x", 0o600, key), [Suspicion { line: Some(1), what: "a private key" }]);
}

#[test]
fn what_stands_by_chance_among_other_bytes_is_no_secret() {
    let lines = |content: &[u8]| -> Vec<usize> {
        suspicions("/srv/blob", 0o600, content).into_iter().filter_map(|found| found.line).collect()
    };
    assert_eq!(lines(b"\xff\0 pw:abc\n\xfe token=x\xff\n\xffpassword=hunter2\n-----BEGIN PRIVATE KEY-----\n"), [3, 4]);
}

#[test]
fn a_very_long_line_is_not_taken_apart() {
    let long = format!("{}\"password\": \"x1\"", "a=b,".repeat(1 << 20));
    assert_eq!(told(&long), [1]);
    assert_eq!(told(&"a=b,".repeat(1 << 20)), Vec::<usize>::new());
    let long = "a=b,".repeat(LONGEST);
    for (rest, lines) in [
        ("{\"api_key\":\"x1\"}", 1),
        ("{\"accessToken\" : \"x1\"}", 1),
        ("aws_access_key=abcdefgh", 1),
        ("this.token=e", 0),
        ("{\"token\":\"\",\"x\":\"${TOKEN}\"}", 0),
        ("tokenizer:\"abc\"", 0),
    ] {
        assert_eq!(told(&format!("{long}{rest}")).len(), lines, "{rest}");
    }
    assert_eq!(told(&format!("{}{}", " ".repeat(1 << 20), "-----BEGIN PRIVATE KEY-----")), [1]);
}

#[test]
fn what_is_told_is_bounded_and_an_encrypted_file_is_no_secret() {
    assert_eq!(told(&"password=a1\n".repeat(500)).len(), MOST);
    assert_eq!(suspicions("/x", 0o600, b"age-encryption.org/v1\n-> ssh-ed25519 x y\nz\n--- password\n").len(), 0);
}

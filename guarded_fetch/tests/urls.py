"""URLs that lead inside, or would if one of several parsers read them, and the names that some of them need.

``{port}`` stands where a port may be put in (``:8080``, or nothing).
"""

from __future__ import annotations

PUBLIC = "93.184.216.34"

LITERALS = [
    "http://127.0.0.1{port}/", "https://127.0.0.1{port}/", "HTTP://127.0.0.1{port}/", "http://127.0.0.2{port}/",
    "http://127.127.127.127{port}/", "http://127.0.0.1.{port}/", "http://0.0.0.0{port}/", "http://0.1.2.3{port}/",
    "http://10.0.0.1{port}/", "http://172.16.0.1{port}/", "http://192.168.0.1{port}/", "http://100.64.0.1{port}/",
    "http://169.254.169.254{port}/latest/meta-data/iam/", "http://169.254.169.254.{port}/",
    "http://169.254.170.2{port}/", "http://100.100.100.200{port}/", "http://192.0.0.192{port}/",
    "http://168.63.129.16{port}/", "http://198.18.0.1{port}/", "http://224.0.0.1{port}/",
    "http://255.255.255.255{port}/", "http://240.0.0.1{port}/",
]  # fmt: skip

ODD_IPV4 = [
    "http://2130706433{port}/", "http://0x7f000001{port}/", "http://0X7F000001{port}/", "http://017700000001{port}/",
    "http://0x7f.0.0.1{port}/", "http://0x7f.0x0.0x0.0x1{port}/", "http://0177.0.0.1{port}/",
    "http://0177.0.0.01{port}/", "http://127.1{port}/", "http://127.0.1{port}/", "http://127.{port}/",
    "http://0{port}/", "http://0x{port}/", "http://00000000000000000177.0.0.1{port}/", "http://127.0.0.0x1{port}/",
    "http://127.0.0.1.0x{port}/", "http://2852039166{port}/", "http://0xa9fea9fe{port}/",
    "http://0251.0376.0251.0376{port}/", "http://169.254.43518{port}/", "http://4294967295{port}/",
    "http://4294967296{port}/", "http://18446744071562067969{port}/", "http://127.0.0.257{port}/",
    "http://127.0.0.1.1{port}/", "http://127..0.0.1{port}/", "http://.127.0.0.1{port}/", "http://127.0.0.1..{port}/",
    "http://+127.0.0.1{port}/", "http://127.0.0.-1{port}/", "http://127.0.0.1e0{port}/",
    "http://1.2.3.4.127.0.0.1{port}/",
]  # fmt: skip

IPV6 = [
    "http://[::1]{port}/", "http://[0:0:0:0:0:0:0:1]{port}/", "http://[0000::0001]{port}/", "http://[::]{port}/",
    "http://[::127.0.0.1]{port}/", "http://[::7f00:1]{port}/", "http://[::ffff:127.0.0.1]{port}/",
    "http://[::ffff:7f00:1]{port}/", "http://[::FFFF:a9fe:a9fe]{port}/", "http://[0:0:0:0:0:ffff:127.0.0.1]{port}/",
    "http://[::ffff:0:127.0.0.1]{port}/", "http://[64:ff9b::127.0.0.1]{port}/", "http://[64:ff9b::a9fe:a9fe]{port}/",
    "http://[64:ff9b:1::7f00:1]{port}/", "http://[2002:7f00:1::]{port}/", "http://[2002:a9fe:a9fe::1]{port}/",
    "http://[2001:0:7f00:1::]{port}/", "http://[2001:db8::1]{port}/", "http://[fd00:ec2::254]{port}/",
    "http://[fc00::1]{port}/", "http://[fe80::1]{port}/", "http://[fec0::1]{port}/", "http://[ff02::1]{port}/",
    "http://[100::1]{port}/", "http://[5f00::1]{port}/", "http://[fe80::1%25lo]{port}/", "http://[fe80::1%lo]{port}/",
    "http://[::1%25]{port}/", "http://[::1{port}/", "http://::1]{port}/", "http://::1{port}/",
    "http://[[::1]]{port}/", "http://[::1].example{port}/", "http://[127.0.0.1]{port}/", "http://[::1]@[::1]{port}/",
    "http://[v1.::1]{port}/", "http://[::0x1]{port}/", "http://[::1:]{port}/", "http://[1::2::3]{port}/",
    "http://[::ffff:127.1]{port}/", "http://[]{port}/", "http://[::ffff:0177.0.0.1]{port}/", "http://[：：1]{port}/",
    "http://⟦::1⟧{port}/",
]  # fmt: skip

UNICODE = [
    "http://①②⑦.⓪.⓪.①{port}/", "http://１２７.０.０.１{port}/", "http://127。0。0。1{port}/", "http://127．0．0．1{port}/",
    "http://127｡0｡0｡1{port}/", "http://𝟏𝟐𝟕.𝟎.𝟎.𝟏{port}/", "http://١٢٧.٠.٠.١{port}/", "http://१२७.०.०.१{port}/",
    "http://¹²⁷.⁰.⁰.¹{port}/", "http://⑯⑨。②⑤④。⑯⑨｡②⑤④{port}/", "http://０x7f000001{port}/", "http://0ｘ7f.1{port}/",
    "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ{port}/", "http://locaｌhost{port}/", "http://localhoſt{port}/", "http://LOCALHO\u017fT{port}/",
    "http://loc\u00adalhost{port}/", "http://local\u200bhost{port}/", "http://local\ufeffhost{port}/",
    "http://127.0.0.1\u200b{port}/", "http://\u202e1.0.0.721{port}/", "http://public.example／@127.0.0.1{port}/",
    "http://public.example＠127.0.0.1{port}/", "http://127.0.0.1／.public.example{port}/",
    "http://127.0.0.1？.public.example{port}/", "http://127.0.0.1℀.example{port}/",
    "http://127.0.0.1＃.public.example{port}/", "http://127.0.0.1：80.public.example/",
    "http://127.0.0.1∕.public.example{port}/", "http：//127.0.0.1{port}/", "http:／／127.0.0.1{port}/",
    "httpſ://127.0.0.1{port}/", "http://127.0.0.1\ud800{port}/", "http://127.0.0.1:８０/",
    "http://xn--127-0-0-1-{port}/", "http://xn--{port}/", "http://xn--0{port}/",
]  # fmt: skip

CONFUSION = [
    "http://public.example@127.0.0.1{port}/", "http://127.0.0.1@public.example{port}/", "http://u:p@127.0.0.1{port}/",
    "http://:@127.0.0.1{port}/", "http://@127.0.0.1{port}/", "http://a@b@127.0.0.1{port}/",
    "http://public.example%40127.0.0.1{port}/", "http://public.example\\@127.0.0.1{port}/",
    "http://127.0.0.1{port}\\@public.example/", "http://public.example#@127.0.0.1:/\\", "http:\\\\127.0.0.1{port}\\",
    "http:/\\127.0.0.1{port}/", "\\\\127.0.0.1\\share", "//127.0.0.1{port}/", "///127.0.0.1{port}/",
    "http:127.0.0.1{port}/", "http:/127.0.0.1{port}/", "http:///127.0.0.1{port}/", "http:////127.0.0.1{port}/",
    "http://", "http://?@127.0.0.1/", "http://#@127.0.0.1/", "http://127.0.0.1\t{port}/", "http://127.0\n.0.1{port}/",
    "http://127.0.0.1\r\nHost: public.example{port}/", "ht\ttp://127.0.0.1{port}/", "\x00http://127.0.0.1{port}/",
    " http://127.0.0.1{port}/", "http://127.0.0.1 {port}/", "http://127.0.0.1{port}/ HTTP/1.1\r\nX: y",
    "http://127.0.0.1\x00.public.example{port}/", "http://127.0.0.1%00.public.example{port}/",
    "http://%31%32%37.0.0.1{port}/", "http://127%2e0%2e0%2e1{port}/", "http://127.0.0.1%2f{port}/",
    "http://%5b::1%5d{port}/", "http://%6c%6f%63%61%6c%68%6f%73%74{port}/", "http://localhost%{port}/",
    "http://127.0.0.1;public.example{port}/", "http://127.0.0.1&public.example{port}/",
    "http://127.0.0.1,public.example{port}/", "http://public.example,127.0.0.1{port}/", "http://(127.0.0.1){port}/",
    "http://'127.0.0.1'{port}/", "http://$HOME{port}/", "http://*{port}/", "http://127.0.0.*{port}/",
    "http://-127.0.0.1{port}/", "http://..{port}/", "http://.{port}/", "http://localhost..{port}/",
    "http://" + "0" * 3000 + "127.0.0.1/", "http://" + "a." * 200 + "localhost{port}/",
    "http://127.0.0.1{port}/" + "a" * 3000, "http://127.0.0.1{port}/" + "ä" * 400,
]  # fmt: skip

SCHEMES = [
    "ftp://127.0.0.1{port}/", "file:///etc/passwd", "file://127.0.0.1/etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL", "dict://127.0.0.1:11211/stat", "ldap://127.0.0.1{port}/",
    "ws://127.0.0.1{port}/", "wss://127.0.0.1{port}/", "tftp://127.0.0.1/x", "jar:http://127.0.0.1!/",
    "data:image/png;base64,AA==", "javascript:fetch('http://127.0.0.1')", "http+unix://%2fvar%2frun%2fdocker.sock/",
    "unix:/var/run/docker.sock", "view-source:http://127.0.0.1/", "url:http://127.0.0.1{port}/",
    "netdoc:///etc/passwd", "httpx://127.0.0.1{port}/", "http2://127.0.0.1{port}/", "h t t p://127.0.0.1/", "",
    "127.0.0.1",
]  # fmt: skip

PORTS = [
    "http://127.0.0.1:0/", "http://127.0.0.1:80:80/", "http://127.0.0.1:65616/", "http://127.0.0.1:-80/",
    "http://127.0.0.1:+80/", "http://127.0.0.1:0x50/", "http://127.0.0.1:8 0/", "http://127.0.0.1:000080/",
    "http://127.0.0.1:00080/", "http://127.0.0.1:99999999999/", "http://public.example:22/",
    "http://public.example:25/", "http://public.example:6379/", "http://public.example:8080/",
    "https://public.example:8443/", "http://public.example:1/", "http://public.example:443:80/",
    "http://public.example:80@127.0.0.1/",
]  # fmt: skip

BY_NAME = [
    "http://localhost{port}/", "http://LOCALHOST{port}/", "http://localhost.{port}/", "http://a.localhost{port}/",
    "http://localtest.example{port}/", "http://metadata.example{port}/",
    "http://metadata.google.internal{port}/computeMetadata/v1/", "http://redis{port}/", "http://mixed.example{port}/",
    "http://mixed6.example{port}/", "http://mapped.example{port}/", "http://nat64.example{port}/",
    "http://sixtofour.example{port}/", "http://linklocal.example{port}/", "http://zero.example{port}/",
    "http://zero6.example{port}/", "http://hundred.example{port}/", "http://empty.example{port}/",
    "http://junk.example{port}/", "http://octal.example{port}/", "http://nowhere.example{port}/",
    "http://127.0.0.1.nip.example{port}/", "https://localtest.example{port}/", "http://under_score.example{port}/",
]  # fmt: skip

HOSTILE = [*LITERALS, *ODD_IPV4, *IPV6, *UNICODE, *CONFUSION, *SCHEMES, *PORTS, *BY_NAME]

NAMES: dict[str, list[str]] = {
    "localhost": ["127.0.0.1", "::1"],
    "a.localhost": ["::1"],
    "localtest.example": ["127.0.0.1"],
    "under_score.example": ["10.0.0.1"],
    "metadata.example": ["169.254.169.254"],
    "metadata.google.internal": ["169.254.169.254"],
    "redis": ["10.0.0.1"],
    "mixed.example": [PUBLIC, "127.0.0.1"],
    "mixed6.example": [PUBLIC, "::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "nat64.example": ["64:ff9b::7f00:1"],
    "sixtofour.example": ["2002:7f00:1::"],
    "linklocal.example": ["fe80::1%lo"],
    "zero.example": ["0.0.0.0"],
    "zero6.example": ["::"],
    "hundred.example": [*([PUBLIC] * 99), "127.0.0.1"],
    "empty.example": [],
    "junk.example": ["localhost"],
    "octal.example": ["0177.0.0.1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "public.example": [PUBLIC],
}

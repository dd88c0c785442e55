# SPDX-License-Identifier: MIT
# shellcheck shell=bash disable=SC2034
# perl.sh -- hashes, regular expressions, sorting, fork and interpreter threads in perl.
what="hash of 300k, regexes, sort, fork with pipes, threads"
packages=perl
commands=perl
witnesses=perl
speed=quick

version() { perl -e 'printf "%vd\n", $^V'; }

workload() {
    cat >work.pl <<'PERL'
use strict;
use warnings;
use threads;
use Digest::MD5 qw(md5_hex);

$| = 1;
my %hash = map { ("key$_" => [$_, "v" x ($_ % 97)]) } 1 .. 300_000;
delete $hash{"key$_"} for grep { $_ % 3 } 1 .. 300_000;
print scalar(keys %hash), " ", md5_hex(join ",", map { "$_=$hash{$_}[1]" } sort keys %hash), "\n";

my $text = join " ", map { "w$_" . "ab" x ($_ % 5) } 1 .. 50_000;
my $count = () = $text =~ /\b(w\d+)((?:ab)*)\b/g;
(my $copy = $text) =~ s/(\d+)/<$1>/g;
print "$count ", length $copy, " ", md5_hex($copy), "\n";

for my $n (1 .. 8) {
    my $pid = open(my $pipe, "-|") // die "fork: $!";
    if (!$pid) {
        my @list = map { ($_ * 7919) % 10007 } 1 .. 20_000;
        print md5_hex(join " ", sort { $a <=> $b } @list), "\n";
        exit $n;
    }
    print "child $n ", <$pipe>;
    close $pipe;
    print "status ", $? >> 8, "\n";
}
undef %hash;  # a thread starts with a copy of everything
my @threads = map { my $n = $_; threads->create(sub {
    my %own = map { ("$n-$_" => "x" x $_) } 1 .. 1500;
    return md5_hex(join ",", map { "$_$own{$_}" } sort keys %own);
}) } 1 .. 6;
print "thread ", $_->join, "\n" for @threads;
die "the end\n";
PERL
    perl work.pl || echo "status $?"
}

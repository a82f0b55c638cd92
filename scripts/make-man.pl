#!/usr/bin/perl
# make-man.pl HEADER FOLDER: the manual pages. The header is the only source: its overview becomes dv_dtls(3), each of its
# sections a page dv_dtls-SECTION(3), which no function can be called, and each function a name under which its section's page
# is found.
use strict;
use warnings;

my ($header, $folder) = @ARGV;
die "usage: $0 HEADER FOLDER\n" unless defined $folder;
open my $file, '<', $header or die "$header: $!\n";
my $text = do { local $/; <$file> };
close $file;

my ($version) = $text =~ /^#define DV_VERSION "(.*)"/m or die "$header: no version\n";
my ($overview) = $text =~ m{\A/\*\n(.*?)\n \*/}s or die "$header: no overview\n";
my $rule = '-' x 94;
my @sections;
while ($text =~ m{^/\* $rule\n \* (\w+): (.*?)\n \* $rule \*/\n(.*?)(?=^/\* $rule\n|^#ifdef __cplusplus)}msg) {
    my ($group, $title, $body) = ($1, $2, $3);
    push @sections, { group => $group, title => joined($title), declarations => [declarations($body)] };
}
die "$header: no section\n" unless @sections;

my @groups = map { "dv_dtls-$_->{group}" } @sections;
write_page('dv_dtls', overview_page());
for my $section (@sections) {
    my $page = "dv_dtls-$section->{group}";
    write_page($page, section_page($page, $section));
    write_page($_->{name}, ".so man3/$page.3\n") for grep { $_->{name} } @{ $section->{declarations} };
}

# A comment and what it is about: for a function its name too.
sub declarations {
    my ($body) = @_;
    $body =~ s/^#(if|endif).*\n//mg;
    my @found;
    while ($body =~ m{^/\*\*(.*?)\*/\n
                    (\#define\ [^\n]*|typedef[^\n]*\{\n.*?^\}[^\n]*;|[^\n/\#][^;]*;)}xmsg) {
        my ($comment, $code) = ($1, $2);
        $comment =~ s/^ \* ?//mg;
        my $name = $code =~ /^(?!typedef|#)[^(]*\b(dv_\w+)\(/ ? $1 : undef;
        push @found, { comment => $comment, code => $code, name => $name };
    }
    return @found;
}

sub overview_page {
    my @blocks = split /\n \*\n/, "$overview\n";
    my $title = joined(shift @blocks);
    my $summary = $title =~ s/^dv_dtls: //r;
    $summary =~ s/\.$//;
    my $page = heading('dv_dtls') . ".SH NAME\ndv_dtls \\- " . escaped($summary) . "\n"
        . ".SH SYNOPSIS\n.nf\n.B #include <dv_dtls.h>\n.fi\n.PP\nLink with\n.IR \\-ldv_dtls\\ \\-lssl\\ \\-lcrypto .\n";
    for my $block (@blocks) {
        $block =~ s/^ \* ?//mg;
        if ($block =~ /^([A-Z][A-Z ]+)$/) {
            $page .= ".SH $1\n";
        } elsif ($block =~ /^([A-Z][A-Z ]+), (.*)/s) {
            $page .= ".SH $1\n" . filled(ucfirst $2);
        } elsif ($block =~ /^ {4}/) {
            $page .= verbatim($block =~ s/^ {4}//mgr);
        } elsif ($block =~ /^\S+ {2,}\S/m) {
            $page .= verbatim($block);
        } else {
            $page .= ".PP\n" . filled($block);
        }
    }
    return $page . see_also('dv_dtls');
}

sub section_page {
    my ($page, $section) = @_;
    my @functions = grep { $_->{name} } @{ $section->{declarations} };
    my @others = grep { !$_->{name} } @{ $section->{declarations} };
    my $summary = $section->{title} =~ s/\.( .*)?$//r;
    $summary = lcfirst $summary if $summary =~ /^[A-Z][a-z]/;
    my $man = heading($page) . ".SH NAME\n" . join(', ', escaped($page), map { $_->{name} } @functions)
        . " \\- " . escaped($summary) . "\n.SH SYNOPSIS\n.nf\n.B #include <dv_dtls.h>\n.PP\n"
        . join('', map { escaped($_->{code}) . "\n" } @functions) . ".fi\n.SH DESCRIPTION\n" . filled($section->{title});
    for my $function (@functions) {
        $man .= ".SS $function->{name}()\n" . described($function->{comment});
    }
    if (@others) {
        $man .= ".SH TYPES AND CONSTANTS\n";
        for my $other (@others) {
            my $comment = joined($other->{comment} =~ s/\@param (\w+)/$1:/gr);
            $man .= filled($comment) . verbatim($other->{code}) . ".PP\n";
        }
    }
    return $man . see_also($page);
}

# The paragraphs of a function's comment.
sub described {
    my ($comment) = @_;
    my $man = '';
    for my $block (split /\n\s*\n/, $comment) {
        $block =~ s/^\n+//;
        if ($block =~ /^\s*\@param/) {
            for my $parameter ($block =~ /\@param (.*?)(?=\n\s*\@param|\z)/sg) {
                my ($name, $meaning) = split ' ', $parameter, 2;
                $man .= ".TP\n.I $name\n" . filled($meaning);
            }
        } elsif ($block =~ /^\s*\@return (.*)/s) {
            $man .= ".PP\nReturns\n" . filled($1);
        } elsif ($block =~ /^ {4}/) {
            $man .= verbatim($block =~ s/^ {4}//mgr);
        } elsif ($block =~ /^\s*- /) {
            $man .= ".IP \\(bu 2\n" . filled($_) for grep { /\S/ } split /^\s*- /m, $block;
        } else {
            $man .= ".PP\n" . filled($block);
        }
    }
    return $man;
}

sub heading { return ".TH " . uc($_[0]) . " 3 \"\" \"dv_dtls $version\" \"dv_dtls\"\n" }

sub see_also {
    my ($page) = @_;
    my @others = grep { $_ ne $page } 'dv_dtls', @groups;
    return ".SH SEE ALSO\n" . join(",\n", map { ".BR " . escaped($_) . " (3)" } @others) =~ s/,\n/ ,\n/gr . "\n";
}

sub verbatim { return ".PP\n.in +4n\n.nf\n" . escaped($_[0]) . "\n.fi\n.in\n" }

sub filled { return escaped(joined($_[0])) . "\n" }

sub joined {
    my ($words) = @_;
    $words =~ s/^ \* ?//mg;
    return join ' ', split ' ', $words;
}

sub escaped {
    my ($plain) = @_;
    $plain =~ s/\\/\\e/g;
    $plain =~ s/-/\\-/g;
    $plain =~ s/^([.'])/\\&$1/mg;
    return $plain;
}

sub write_page {
    my ($name, $man) = @_;
    open my $out, '>', "$folder/$name.3" or die "$folder/$name.3: $!\n";
    print $out $man;
    close $out or die "$folder/$name.3: $!\n";
}

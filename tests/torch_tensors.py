"""Two files that torch wrote, in its formats before and after 1.6, their tensors, and torch's AlexNet."""

import base64
import zlib

import jax.numpy as jnp
import numpy as np

# Written by torch 2.14 and compressed: {"epoch": 1, "state_dict": ...}, the state dict of a Linear(2, 2), a
# Parameter, a strided window of a larger tensor, a half, a bfloat16 and an integer.
ZIP_FILE = zlib.decompress(
    base64.b85decode(
        "c-o~_%WoS+7#}}kJ4@m?X&`NY5Z+E{9ecfgq)Fp+X_vwxNDWAai?y~l@e0SAZ#_-`DN-bq@ahE)6<iPpBqSux9LaxxIDnAgf"
        "CLAs3h@^pF*9qsJL4u+ok_-{wdePkneY2%*Y!XUp-2SvwHTU0hEuIuJLY1|z(!*G?S`gC(OX>G_wNCUmqrM{+_tNA@aeviM4"
        "npMz-GB-RWbOhRlCtJtJt!eE$LOKW;$l=D)~i%z(Ns%@luEYc1>%uj$x#VZK9eex3Se|NoB{Zw5>+1jLl}tcFH@l1fh7m6lM"
        "~(V{Dobb|I41unqj0`=tbtl8?+u!e}W##_Dz(Bt3}Xfg3u~{ks1U#>n71gz=B+)I}7-L=j>ovKy#k87-Ks6P<dv?((EysxIk"
        "%3}+br0H$@{0X*npAHpzGgtMhlGI85*j4czJ4xBq?CA}FE%yJqsJnU*b($RR7YRtJBk71ZE!s8#ZhbKOOCyVfuyKh#rX79q&"
        "990^gAyi`+p1q+5-Q~u~5Ilqhm+m}<=ZbKFEw^qoHsGR*?`-9D@>Opq6O2-UMMCMrkfiR2u@wD~UAi;|r3e`o2NlP#nvmuAR"
        "CYG0Y>zX?I5UuUIhQ(|m*~f`%ejK#auHS;XVq>uF%&q?m+j_ek8h3fW#Nj;rxLz}&QhPpaJ2~6+Iyg}6DpI<H)uq|3+(snB^"
        "vJV;vT%j!fMBKS|n0I*L|&4tI|%a>*2`lpWnRsmmeY8*N@Ga8S>Z7nZ$<eY#F%Rq0`heLh7)VqU7KI`}_OUKJCYo&!XI2@=o"
        "lRjfS<^+%lV3Q`7h2AJno6HBi`v+hk$Lf1-g&ROlI~yo*hnX0oO(52M>{4GZIjNj)4~{_`A-=g^5BqG*+?N{dNNy>to#2<;a"
        "L?Hc(feSeKQd42kuPhzYBp6o>7ouo81iSA$jE24YEbYtkw7gQ)RKzD`Ll{GbwhF||5L?2zD`d|O^%K0Jm)2Gv?jX#6#o^-vD"
        "lOTPb^d$57&fdmqlGgSCKBsw~il)Z;e4;#MG`{`K8XW&or1FdzO<g@r@RN2_p!zrezP2)ie)jbGfetry@$s+U-5GrT6KJ{Tq"
        "F38;!`etoRQabbH{Te%{y8MyEr4tTTBc)>3izHuUoFa3O;Z#1X(XA=FJ<JVOjgO|GjcMU$>j3MysXG+B`GiEQh6ms#w;t-Km"
        "79Fk8$E7&RqJa*`81D{SfPOF1|;JXzv9u!y%ObI_^dhNxVgTmLvJpOVW39h&<jxJjwA)1yTP6Ai}-XGs?kl1(8s@MXa|1^4R"
        "$i0h<!B-s;6;KNqpGi1k(!9(y(<VACSjTRV8{k%(19tT*p@>{M95W<;zvTY2nfA~q{xz4<o5uQ!6k>=wb^G??RsJ>YvM=(-*"
        "XUFfEB;9?IsE{wTOUCNJk%TtKHnjw44eRkiJMnW!ToXvOV{tp*7*w_"
    )
)

# The same in the format before torch 1.6, with one more tensor outside of the state dict, as of an optimizer.
LEGACY_FILE = zlib.decompress(
    base64.b85decode(
        "c-nPSSyR+N5Y7b)5fE?j#C!2r_a=C;AR-#hpjCOXQrYZCVr7%<WCEpCTeUAB`Wt-k(VxLj@ztMTl@E4~T?Im_dM4A;{e9ij-5u_"
        "$X#e>(|9kwykJYhUhg<r^<Jtx$tBx`Z)AC&E8m_Hv63@3>2Us*vhw;X?D7A@3oQ9=4!0oCcD(S}-(R}L@@qurHkX8Fo>6@-cp-<"
        "*i9#57-p<fnMA;fT<4amqs5Og_1d(v_Z6IhvzAbqM+qBSgo0%u?(HZdp$;)^R@gLtGdhc_bd6G}+ej}BYJ+AxvNpsr__IW3@;?T"
        "ea6>Vai9G)f%b^|Z~R2>sctnu#b}Pv0PriCx5b+tulMtQ28D9YLF^a&fXynyg4D#XJl~xfrbgL|Is-aBNLxWKQOGU<fyM2Zq0xV"
        "N4?wjw>)4Wm~s&A5NIaYG%wssMTs2PMV_3A=;@3Z5vL@>^7W<k<L;$r@(o2FszF1=}kh32V+NM*|QMg!ePc@H9u9VRHQOoOc*aE"
        "jF&^kD>36$3gZe~+l>y_Kf?_LZpJTcISqFUZlwcDQXW&ejle?)d}mD-;)luNChWjO41SlwJq7MZ4`b@~dw39|B_&uuRj&fMeFTL"
        "{zEqXqAri1ikPjorpbOzrjKND3$_iAXZmN5_<v?{G`fOC;Lbb;*d4Qo1)>ujyrV@rn;qo|UctYW+0?#4_!ws;fr}r@|VrTczYX{"
        ">m7RxY`pwA-uMDi%lDa<MGB51>WRA&uKs5f+~!^`M?K}974uiEfBYTWKn$};Qwem(MWThwae1bVR8h9z|XRZX`^92zuXIkjS#Y+"
        "1^~3I@buK&xT8{5GtG=_+wx>lEH7@YWCK^j$coDG9M@RpQbfmQSM>(%Q2xt+o2o1~QX2PXi>!GV#YJd-u#p-M_u*?j6H)rn|!Rb"
        "U$mj%nULAf1wS7`Wi|H<vYq=t!v9LqbTDj`5EB|pMUtV?_Z(NSw{"
    )
)

EXPECTED = {
    "weight": np.array([[1, 2], [3, 4]], np.float32),
    "bias": np.array([5, 6], np.float32),
    "parameter": np.array([7, 8], np.float32),
    "window": np.array([[4, 8], [6, 10]], np.float32),
    "half": np.array([0.5], np.float16),
    "brain": np.array([1.5], jnp.bfloat16),
    "count": np.array(3, np.int64),
}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, strict=True)


BACKBONE = {  # weights of torch's AlexNet, 32 times narrower
    "features.0": (2, 3, 11, 11),
    "features.3": (6, 2, 5, 5),
    "features.6": (12, 6, 3, 3),
    "features.8": (8, 12, 3, 3),
    "features.10": (8, 8, 3, 3),
    "classifier.1": (128, 288),
    "classifier.4": (128, 128),
}
